"""Python API: what ``import zipasr`` offers.

``model_loading`` loads models, ``commands`` trains, decodes and exports; ``wording`` puts errors in
terms of arguments. The package ``zipasr`` itself
hands their names out when they are first used.
"""

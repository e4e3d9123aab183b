"""Python API: what ``import zipasr`` offers.

``loading`` loads models, ``commands`` trains, decodes and exports. The package ``zipasr`` itself
hands their names out when they are first used.
"""

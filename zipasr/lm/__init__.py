"""Language models: how probable a sequence of tokens or words is, whatever was said.

``arpa`` reads back-off n-gram models and answers for them; ``estimate`` makes them from text.
``rnn`` is the recurrent model, with icefall's key names. Nothing here knows of sound; ``search``
asks these models while it looks for words, and ``training`` fits the recurrent one.
"""

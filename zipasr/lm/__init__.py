"""Language models: how probable a sequence of tokens or words is, whatever was said.

``arpa`` reads back-off n-gram models and answers for them; ``estimate`` makes them from text;
``table`` answers for many words at once. ``rnn`` is the recurrent model, with icefall's key names,
``transformer`` the other one; ``prefixes`` keeps what that made of the beginnings of sentences.
Nothing here knows of sound; ``search`` asks these models while it looks for words, and ``training``
fits those of ``neural``.
"""

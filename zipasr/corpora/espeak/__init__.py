"""The embedded corpus: sentences of a grammar, spoken offline by the eSpeak NG synthesiser."""

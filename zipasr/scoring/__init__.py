"""From two lists of words to error rates, result files and reports.

``word_errors`` aligns and counts; ``result_files`` formats icefall's result files and tables;
``calibration`` fits the confidence of words to what was right, and measures how reliable it is;
``decodings`` stores decoded test sets for reports and ``record_checks`` checks what is read of
them; ``breakdown``, ``latency`` and ``confidence_intervals`` analyse them, ``html_report`` shows
them, ``training_facts`` reads how the model was trained, ``run_report`` writes the report of a
training run, as Markdown too.
"""

"""Flags in, exit status out.

What commands there are, with their dataclasses of flags and examples, is in ``training_commands``,
``recognition_commands`` (and from their flags to the settings of ``recognition``),
``model_commands`` and ``preparation_commands``. ``command_flags`` reads the command line of one;
``flags`` gives each flag its value (dataclass, command, recipe, preset, typed), ``recipes`` finds
the recipe, ``help`` prints. ``entry`` starts a command: it reads the flags, and then imports the
module that does the work. ``main`` is the command ``zipasr``, ``verbs`` shows texts in the words
that were typed. ``stages`` does the stages of ``prepare.sh`` in order, with ``prepare_options``;
``prepare`` has their work. ``config``: settings of single commands. Every other module is one
command. The scripts at the top level and in ``local/`` only call ``entry``.
"""

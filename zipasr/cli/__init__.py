"""Flags in, exit status out.

``commands`` says which dataclasses make up which command, ``flags`` reads a command line into them;
every other module is one command and holds one ``main(argv=None)``, a table of contents of what the
command does. The scripts at the top level and in ``local/`` only call it.
"""

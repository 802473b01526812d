"""The ``perception <verb>`` command: one small module per verb."""

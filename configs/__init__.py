"""The configuration files, packaged so that `xkd config show` finds them from an installed wheel."""

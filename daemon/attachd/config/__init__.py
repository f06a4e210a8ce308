"""The configuration: TOML into one frozen, validated tree, every problem told at once."""

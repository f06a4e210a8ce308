"""The only memory and the only queue: what every file's state is, durable before it counts."""

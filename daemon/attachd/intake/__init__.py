"""From the folder to the journal: ignoring, routing, settling, scanning, watching."""

"""The page for people who run the service, and what machines ask it. Loaded only where ``[web] listen`` asks for it."""

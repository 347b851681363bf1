"""Who logs in, how, and how often they may try: throttling, sessions, passwords and single sign-on."""

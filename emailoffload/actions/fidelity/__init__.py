"""The proof on a site's own mails: what we would send, compared with what Moodle sent (design §5 and §8)."""

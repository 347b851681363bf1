"""What `manage.py setup` finds out and writes: config.php, databases, the site, Amazon SES, the environment file."""

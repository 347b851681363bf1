"""The soak: thousands of mails through real processes that are killed, while SES, SMTP and MariaDB fail at random.

`manage.py bench soak` lays out what is owed (`site`), starts workers of the product (`worker`) and Moodle's crons
(`crons`), lets trouble loose for a while (`trouble`), waits until all is settled, and then asks only those who
cannot be mistaken who mailed what: what SES took (`cloud`), what the SMTP server took (`sink`), what Moodle's crons
wrote down as they mailed. The `ledger` sets that against what was owed: nothing twice, nothing lost.
"""

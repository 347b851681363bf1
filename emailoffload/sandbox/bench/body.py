"""The reminder that the throughput runs send; the peer sends the same."""

BODY = (
    "<p>Dear %userfirstname% %userlastname%,</p>\n<p>You have <b>not yet finished</b> "
    '<a href="https://learn.example.org/course/view.php?id=%courseid%">%coursefullname%</a>. '
    "Please take the next step this week, so that your certificate stays valid.</p>\n<ul>\n"
    + "".join(
        f'<li>Part {n}: <a href="https://learn.example.org/mod/page/view.php?id={n}&amp;from=mail">what you '
        f"need to know about topic {n}</a>, about {n * 5} minutes of reading and a short quiz that shows you "
        "where you stand. You can stop at any time; what you have done is kept and counts. Ask your colleagues "
        "or your trainer when something is unclear, or write to us.</li>\n"
        for n in range(1, 12)
    )
    + "</ul>\n<h3>Why this matters</h3>\n<p>%userdepartment% and %userinstitution% count on people who know "
    "how to keep data safe. <i>It takes less than an hour.</i></p>\n"
    '<p><img src="https://learn.example.org/logo.png" alt="Learn" width="120" height="40" /></p>\n'
    "<p>Kind regards from %courseshortname%<br />The training team in %usercity%</p>"
)
"""A reminder as sites write them: 5 KB of HTML with placeholders, links, a list and emphasis."""

"""`manage.py drill`: rehearsals of failures on a private stage, and a report that an admin can keep.

| Module | Is |
|---|---|
| `plan` | what is rehearsed, with which of the site's settings, and how much faster |
| `runner` | starts the stage in a process of its own, relays what it says, leaves nothing behind |
| `conductor` | that process: one rehearsal after the other |
| `stage` | a sample Moodle, a worker, a local SES, an SMTP server: what can be broken, and what can be seen |
| `rehearsals`, `stoppages` | the rehearsals: do this, expect that |
| `ledger` | how often each owed mail went out, counted at the receiving ends |
| `report` | the report, as data and as text |

The command's own process has the site's settings and opens no database; everything else runs with `settings`
of this package and an environment without anything of the site's (`plan.environment`).
"""

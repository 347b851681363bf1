"""Setting up SES's events: what there is to be (`plan`), what there is and what was made (`steps`)."""

"""A local SES and a sample Moodle, to try and to test the product without AWS, MySQL or the internet."""

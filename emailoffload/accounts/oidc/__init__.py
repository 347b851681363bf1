"""Single sign-on by OpenID Connect: django-allauth speaks the protocol, `admission` decides who gets in."""

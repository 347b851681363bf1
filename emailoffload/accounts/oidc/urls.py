"""Addresses of single sign-on; there are none without a provider."""

from django.urls import path

from emailoffload.accounts.oidc import views

urlpatterns = [
    path("", views.begin, name="oidc-login"),
    path("callback/", views.callback, name="oidc-callback"),
]

"""Addresses of the site."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from emailoffload.accounts import views as accounts

urlpatterns = [
    # Django's admin has no ways in and out of its own: ours are throttled, recorded, and one.
    path("admin/login/", accounts.AdminLogIn.as_view()),
    path("admin/logout/", accounts.LogOut.as_view()),
    path("admin/password_change/", RedirectView.as_view(pattern_name="password_change")),
    path("admin/password_change/done/", RedirectView.as_view(pattern_name="password_change_done")),
    path("admin/", admin.site.urls),
    path("", include("emailoffload.dashboard.urls")),
]
handler500 = "emailoffload.dashboard.outage.server_error"

"""Addresses of the site."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("emailoffload.dashboard.urls")),
]
handler500 = "emailoffload.dashboard.outage.server_error"

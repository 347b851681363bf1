"""Addresses of the dashboard."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from emailoffload.dashboard import (
    copies,
    fallbacks,
    pause,
    preview,
    reconciliation,
    resend,
    routing,
    shadows,
    users,
    views,
)

urlpatterns = [
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("", views.OverviewPage.as_view(), name="overview"),
    path("emails/", views.EmailsPage.as_view(), name="emails"),
    path("emails/<int:pk>/", views.EmailPage.as_view(), name="email"),
    path("emails/<int:pk>/preview/", preview.PreviewPage.as_view(), name="email-preview"),
    path("emails/<int:pk>/preview/html/", preview.PreviewHtml.as_view(), name="email-preview-html"),
    path("emails/<int:pk>/resend/", resend.ResendPage.as_view(), name="email-resend"),
    path("users/", users.UsersPage.as_view(), name="users"),
    path("users/<int:user_id>/", users.UserPage.as_view(), name="user"),
    path("copies/", copies.CopiesPage.as_view(), name="copies"),
    path("routing/", routing.RoutingPage.as_view(), name="routing"),
    path("routing/shadows/", shadows.ShadowsPage.as_view(), name="shadows"),
    path("pause/", pause.PausePage.as_view(), name="pause"),
    path("fallbacks/", fallbacks.FallbacksPage.as_view(), name="fallbacks"),
    path("fallbacks/<slug:state>/", fallbacks.GroupPage.as_view(), name="fallback-group"),
    path("reconciliation/", reconciliation.ReconciliationPage.as_view(), name="reconciliation"),
    path("runs/", views.RunsPage.as_view(), name="runs"),
    path("healthz", views.Healthz.as_view(), name="healthz"),
]

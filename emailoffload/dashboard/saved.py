"""Saved views of *Emails*: filters under a name, for oneself or for everybody.

What one person keeps for themselves nobody else reads, opens or changes. A shared view is everybody's to use who
sees the whole site; sharing needs a permission of its own, and only its owner, or somebody with that permission, can
take it back. People who are bound to companies have only views of their own: a name may tell of other companies.
"""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.dashboard import access, paging
from emailoffload.dashboard.chips import query_of
from emailoffload.dashboard.filters import NAMES
from emailoffload.dashboard.models import Choice, SavedView
from emailoffload.dashboard.views import Page
from emailoffload.outbox import scope
from emailoffload.outbox.models import AuditEntry

MOST: Final = 50
"""Views of one person."""
DEFAULT: Final = "emails-view"
QUERY_MOST: Final = 2000


class ViewForm(forms.Form):
    """The present filters, and the name to keep them under."""

    name = forms.CharField(
        label=gettext_lazy("Name of the view"),
        max_length=60,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    query = forms.CharField(max_length=QUERY_MOST, required=False, widget=forms.HiddenInput)
    shared = forms.BooleanField(label=gettext_lazy("For everybody"), required=False)

    def clean_query(self) -> str:
        """Only filters, none of them empty: no place in the list, nothing unknown."""
        return query_of(QueryDict(self.cleaned_data["query"]), NAMES).urlencode()


def visible(user: scope.Person) -> QuerySet[SavedView]:
    """The views that a person may use: their own and, if they see the whole site, the shared ones."""
    mine = Q(owner=user.pk)
    return SavedView.objects.filter(mine if scope.is_bound(user) else mine | Q(shared=True))


def may_share(user: scope.Person) -> bool:
    """Whether a person may make a view everybody's."""
    return bool(user.has_perm(access.SHARE_VIEW)) and not scope.is_bound(user)  # type: ignore[union-attr]


def default_of(chosen: dict[str, Any]) -> int | None:
    """The id of the view that a person's choices name as the one to begin with."""
    value = chosen.get(DEFAULT)
    view = value.get("view") if isinstance(value, dict) else None
    return view if isinstance(view, int) else None


def address(view: SavedView) -> str:
    """Where the view is seen."""
    query = f"{view.query}&" if view.query else ""
    return f"{reverse('emails')}?{query}view={view.pk}"


def _audit(request: HttpRequest, action: str, view: SavedView) -> None:
    """On record goes what others see: shared views."""
    names = sorted(QueryDict(view.query))
    AuditEntry.objects.create(
        actor=request.user.get_username(),
        action=action,
        object_type="savedview",
        object_id=str(view.pk),
        details={"name": view.name, "filters": names},
    )


class SavedViewsPage(Page):
    """One's own views and the shared ones, with what can be done about each."""

    template_name = "offload/saved_views.html"
    permissions = (access.VIEW_EMAIL,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The views that the person may use; two queries."""
        user = self.request.user
        chosen = Choice.objects.filter(user=user.pk, name=DEFAULT).first()
        found = list(visible(user).select_related("owner").order_by("name", "pk")[:1000])
        return super().get_context_data(
            mine=[view for view in found if view.owner_id == user.pk],
            shared=[view for view in found if view.owner_id != user.pk],
            default=default_of({DEFAULT: chosen.value} if chosen else {}),
            may_share=may_share(user),
            most=MOST,
            **kwargs,
        )


class SaveView(Page):
    """Keep the present filters under a name; a name that one has already is given the new filters."""

    permissions = (access.VIEW_EMAIL,)
    http_method_names = ("post", "options")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Save and show it, or say why it cannot be saved."""
        form = ViewForm(request.POST)
        if not form.is_valid():
            messages.error(request, _("The view was not saved: %(why)s") % {"why": _first_error(form)})
            return HttpResponseRedirect(reverse("emails") + "?" + _query(request))
        name, query, shared = (form.cleaned_data[key] for key in ("name", "query", "shared"))
        if shared and not may_share(request.user):
            raise PermissionDenied(str(access.NEEDED[access.SHARE_VIEW]) % {"permission": access.SHARE_VIEW})
        try:
            view = self.keep(request, name, query, shared)
        except IntegrityError:
            # The same form twice at the same moment: the other request has just made the view.
            view = self.keep(request, name, query, shared)
        if view is None:
            text = _("You have %(n)d saved views, and no more can be kept. Delete one that you do not use.")
            messages.error(request, text % {"n": MOST})
            return HttpResponseRedirect(reverse("saved-views"))
        messages.success(request, _("Saved as “%(name)s”.") % {"name": name})
        return HttpResponseRedirect(address(view))

    @staticmethod
    @transaction.atomic
    def keep(request: HttpRequest, name: str, query: str, shared: bool) -> SavedView | None:
        """The person's view of that name with these filters; None where they have too many. Raises IntegrityError."""
        mine = SavedView.objects.select_for_update().filter(owner=request.user.pk)
        view = mine.filter(name=name).first()
        if view is None and mine.count() >= MOST:
            return None
        was_shared = view is not None and view.shared
        if view is None:
            view = SavedView(owner_id=_id(request.user), name=name)
        view.query, view.shared = query, shared
        view.save()
        if shared:
            _audit(request, "share_view", view)
        elif was_shared:
            _audit(request, "unshare_view", view)
        return view


class ChangeView(Page):
    """Rename, delete or share a view of one's own; make any that one may use the first that is shown."""

    permissions = (access.VIEW_EMAIL,)
    http_method_names = ("post", "options")

    def post(self, request: HttpRequest, pk: int, *args: Any, **kwargs: Any) -> HttpResponse:
        """Do what `do` says, then show the list. Raises Http404 for views of others and for other words."""
        view = get_object_or_404(visible(request.user), pk=pk if pk <= paging.MAX_ID else 0)
        deeds = {
            "rename": self.rename,
            "delete": self.delete,
            "share": self.share,
            "unshare": self.unshare,
            "default": self.default,
            "no-default": self.no_default,
        }
        deed = deeds.get(request.POST.get("do", ""))
        if deed is None:
            raise Http404
        deed(request, view)
        return HttpResponseRedirect(reverse("saved-views"))

    def _own(self, request: HttpRequest, view: SavedView) -> None:
        """Raise Http404 unless the view is the person's own."""
        if view.owner_id != request.user.pk:
            raise Http404

    def rename(self, request: HttpRequest, view: SavedView) -> None:
        """Give it another name that the person has not used."""
        self._own(request, view)
        form = ViewForm({"name": request.POST.get("name", ""), "query": view.query})
        if not form.is_valid():
            messages.error(request, _("The view was not renamed: %(why)s") % {"why": _first_error(form)})
            return
        name = form.cleaned_data["name"]
        taken = SavedView.objects.filter(owner=request.user.pk, name=name).exclude(pk=view.pk).exists()
        if taken:
            messages.error(request, _("You have a view called “%(name)s” already.") % {"name": name})
            return
        view.name = name
        view.save(update_fields=["name"])
        messages.success(request, _("It is called “%(name)s” now.") % {"name": name})

    def delete(self, request: HttpRequest, view: SavedView) -> None:
        """Remove it: one's own, or a shared one where the person may share."""
        if view.owner_id != request.user.pk and not may_share(request.user):
            raise Http404
        name = view.name
        if view.shared:
            _audit(request, "unshare_view", view)
        view.delete()
        messages.success(request, _("“%(name)s” is deleted.") % {"name": name})

    def share(self, request: HttpRequest, view: SavedView) -> None:
        """Make it everybody's."""
        self._own(request, view)
        if not may_share(request.user):
            raise PermissionDenied(str(access.NEEDED[access.SHARE_VIEW]) % {"permission": access.SHARE_VIEW})
        view.shared = True
        view.save(update_fields=["shared"])
        _audit(request, "share_view", view)

    def unshare(self, request: HttpRequest, view: SavedView) -> None:
        """Make it the owner's alone again."""
        self._own(request, view)
        view.shared = False
        view.save(update_fields=["shared"])
        _audit(request, "unshare_view", view)

    def default(self, request: HttpRequest, view: SavedView) -> None:
        """Begin with it when *Emails* is opened without filters."""
        Choice.objects.update_or_create(
            user_id=_id(request.user), name=DEFAULT, defaults={"value": {"view": view.pk}}
        )

    def no_default(self, request: HttpRequest, view: SavedView) -> None:
        """Begin with all emails again."""
        Choice.objects.filter(user=request.user.pk, name=DEFAULT).delete()


def _id(user: scope.Person) -> int:
    assert user.pk is not None
    return int(user.pk)


def _query(request: HttpRequest) -> str:
    return query_of(QueryDict(request.POST.get("query", "")[:QUERY_MOST]), NAMES).urlencode()


def _first_error(form: forms.Form) -> str:
    return next((str(error) for errors in form.errors.values() for error in errors), "")

"""Moodle's models are read from Moodle's database and never written through the ORM."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group as OurGroup
from django.db import router

from emailoffload.moodle import models
from emailoffload.moodle.router import MoodleIsReadOnly


@pytest.mark.parametrize("model", models.MODELS)
def test_reads_go_to_moodles_database_and_no_table_is_ours_to_manage(
    model: type[models.MoodleTable],
) -> None:
    assert router.db_for_read(model) == "moodle"
    assert not model._meta.managed
    assert not router.allow_migrate_model("moodle", model)
    assert not router.allow_migrate_model("default", model)


def test_our_own_models_stay_in_our_database() -> None:
    assert router.db_for_read(OurGroup) == "default"
    assert router.allow_migrate_model("default", OurGroup)
    assert not router.allow_migrate_model("moodle", OurGroup)


@pytest.mark.django_db(databases=["default", "moodle"])
@pytest.mark.parametrize("model", models.MODELS)
def test_every_way_to_write_a_row_is_refused(model: type[models.MoodleTable]) -> None:
    with pytest.raises(MoodleIsReadOnly):
        model(id=1).save()
    with pytest.raises(MoodleIsReadOnly):
        model.objects.create(id=1)
    with pytest.raises(MoodleIsReadOnly):
        model.objects.filter(id=1).update(id=2)
    with pytest.raises(MoodleIsReadOnly):
        model.objects.filter(id=1).delete()
    with pytest.raises(MoodleIsReadOnly):
        model.objects.bulk_create([model(id=1)])

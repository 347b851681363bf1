"""Which text filters act in a course, their settings there, and what *activitynames* links (facts §4.6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from django.db import connections

from emailoffload.moodle import grants, models
from emailoffload.moodle.schema import chunks, readable_columns
from emailoffload.moodle.types import CourseActivityName, SiteConfig, TextContext, TextFilter

CONTEXT_COURSE = 50
FILTER_ACTIVITYNAMES = "activitynames"
_WITHOUT_PAGE = frozenset({"label"})
"""Core activities that have no page of their own, so that *activitynames* never links them."""
_FOLDER_INLINE = 1
"""`folder.display` of a folder that is shown on the course page and has no page of its own."""


def load_text_contexts(course_ids: Collection[int], site: SiteConfig | None = None) -> dict[int, TextContext]:
    """What formatting depends on in each course's context, for every id given.

    A filter is on where MAX(active · depth) > −MIN(active · depth) over the contexts on the course's path, in
    the order of MAX(sortorder); its settings are those of the course's own context. Seven queries per
    thousand courses, and one per installed activity plugin where *activitynames* is on. A course without a
    context has no filters. The front page's context is taken from `site`, if given.
    """
    known = {site.course_id: site.site_context} if site else {}
    found = {course: known[course] for course in course_ids if course in known}
    return found | _load(sorted(set(course_ids) - known.keys()))


def _load(wanted: list[int]) -> dict[int, TextContext]:
    contexts = _course_contexts(wanted)
    on_path = {int(part) for _, path in contexts.values() for part in path.split("/") if part.isdigit()}
    depths = _depths(on_path)
    rows = _filter_rows(on_path)
    settings = _filter_settings([pk for pk, _ in contexts.values()])
    filters = {}
    for course, (context, path) in contexts.items():
        chain = [int(part) for part in path.split("/") if part.isdigit()]
        filters[course] = tuple(
            TextFilter(name=name, config=settings.get((context, name), {}))
            for name in active_filters(
                (name, active, depths[pk], order)
                for pk in chain
                if pk in depths
                for name, active, order in rows[pk]
            )
        )
    linking = [c for c, found in filters.items() if any(f.name == FILTER_ACTIVITYNAMES for f in found)]
    names, unknown = _activity_names(linking)
    return {
        course: TextContext(
            filters=filters.get(course, ()),
            course_id=course,
            activities=tuple(names.get(course, ())),
            activities_unknown=tuple(sorted(unknown.get(course, ()))),
        )
        for course in wanted
    }


def active_filters(rows: Iterable[tuple[str, int, int, int]]) -> list[str]:
    """The filters that are on, in order, from one path's (filter, active, context depth, sortorder)."""
    grouped: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for name, active, depth, order in rows:
        grouped[name].append((active * depth, order))
    found = [
        (max(order for _, order in values), name)
        for name, values in grouped.items()
        if max(weight for weight, _ in values) > -min(weight for weight, _ in values)
    ]
    return [name for _, name in sorted(found)]


def _course_contexts(courses: Iterable[int]) -> dict[int, tuple[int, str]]:
    result: dict[int, tuple[int, str]] = {}
    for chunk in chunks(courses):
        rows = models.Context.objects.filter(contextlevel=CONTEXT_COURSE, instanceid__in=chunk)
        for course, pk, path in rows.values_list("instanceid", "id", "path"):
            result[course] = (pk, path or "")
    return result


def _depths(contexts: Iterable[int]) -> dict[int, int]:
    result: dict[int, int] = {}
    for chunk in chunks(contexts):
        result |= dict(models.Context.objects.filter(id__in=chunk).values_list("id", "depth"))
    return result


def _filter_rows(contexts: Iterable[int]) -> defaultdict[int, list[tuple[str, int, int]]]:
    result: defaultdict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for chunk in chunks(contexts):
        rows = models.FilterActive.objects.filter(contextid__in=chunk)
        for context, name, active, order in rows.values_list("contextid", "filter", "active", "sortorder"):
            result[context].append((name, active, order))
    return result


def _filter_settings(contexts: Iterable[int]) -> dict[tuple[int, str], dict[str, str]]:
    result: defaultdict[tuple[int, str], dict[str, str]] = defaultdict(dict)
    for chunk in chunks(contexts):
        rows = models.FilterConfig.objects.filter(contextid__in=chunk)
        for context, name, key, value in rows.values_list("contextid", "filter", "name", "value"):
            result[context, name][key] = value or ""
    return result


def _activity_names(
    courses: Collection[int],
) -> tuple[dict[int, list[CourseActivityName]], dict[int, set[str]]]:
    """Names by course, and by course the activity plugins whose names the account may not read.

    The cron's user is an admin, who can see all that is not hidden (`visible`) or being deleted, of plugins
    that are enabled for the site.
    """
    names: defaultdict[int, list[CourseActivityName]] = defaultdict(list)
    unknown: defaultdict[int, set[str]] = defaultdict(set)
    if not courses:
        return names, unknown
    plugins = dict(models.Module.objects.filter(visible=1).values_list("id", "name"))
    places = []
    for chunk in chunks(courses):
        rows = models.CourseModule.objects.filter(course__in=chunk, visible=1, deletioninprogress=0)
        for cmid, course, module, instance in rows.order_by("id").values_list(
            "id", "course", "module", "instance"
        ):
            plugin = plugins.get(module)
            if plugin is not None and plugin not in _WITHOUT_PAGE:
                places.append((cmid, course, plugin, instance))
    instances: defaultdict[str, set[int]] = defaultdict(set)
    for _, _, plugin, instance in places:
        instances[plugin].add(instance)
    known, unreadable = _instance_names(instances)
    for cmid, course, plugin, instance in places:
        if plugin in unreadable:
            unknown[course].add(plugin)
        elif (plugin, instance) in known:
            names[course].append(CourseActivityName(cmid=cmid, modname=plugin, name=known[plugin, instance]))
    return names, unknown


def _instance_names(
    instances: Mapping[str, Collection[int]],
) -> tuple[dict[tuple[str, int], str], set[str]]:
    """Names of activities by (plugin, id), from each plugin's own table, and the unreadable plugins."""
    connection = connections["moodle"]
    tables = {"reengagement": models.table("reengagement")} | grants.module_tables(
        models.table(""), instances
    )
    held = readable_columns(connection, tuple(tables[plugin] for plugin in instances if plugin in tables))
    known: dict[tuple[str, int], str] = {}
    unreadable = set()
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for plugin, wanted in instances.items():
            columns = grants.module_columns(plugin)
            if plugin not in tables or not set(columns) <= held.get(tables[plugin], {}).keys():
                unreadable.add(plugin)
                continue
            shown = f" AND {quote('display')} <> {_FOLDER_INLINE}" if "display" in columns else ""
            for chunk in chunks(wanted):
                marks = ", ".join(["%s"] * len(chunk))
                # Only names of tables that were found in the database stand in the statement.
                cursor.execute(
                    f"SELECT id, name FROM {quote(tables[plugin])} WHERE id IN ({marks}){shown}",  # noqa: S608
                    chunk,
                )
                known |= {(plugin, pk): name for pk, name in cursor.fetchall()}
    return known, unreadable

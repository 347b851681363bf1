"""What a filter may look at beside the text."""

from __future__ import annotations

from dataclasses import dataclass

from emailoffload.moodle.types import SiteConfig, TextContext


@dataclass(frozen=True, slots=True)
class Scope:
    """One run of the filter chain. `text_format` is None for names (format_string)."""

    site: SiteConfig
    context: TextContext
    text_format: int | None

    def setting(self, plugin: str, name: str, default: str) -> str:
        """A row of `config_plugins`; where it is not there, the value that Moodle's installer would store."""
        return self.site.filter_config.get(plugin, {}).get(name, default)

    def handles_format(self, plugin: str) -> bool:
        """True where the filter's setting `formats` has the text's format; never for names."""
        formats = self.setting(plugin, "formats", "1,4,0").split(",")
        return self.text_format is not None and str(self.text_format) in formats

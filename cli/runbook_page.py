"""The runbook as one HTML file that needs no network and prints well."""

from markdown_it import MarkdownIt

from cli.report_style import DIM, FONT, INK, LINE

_STYLE = f"""
body {{ font: 14px/1.5 {FONT}; color: {INK}; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ margin-top: 2.2rem; border-bottom: 1px solid {LINE}; }}
table {{ border-collapse: collapse; width: 100%; margin: .6rem 0; font-size: 12.5px; }}
th, td {{ text-align: left; vertical-align: top; padding: .25rem .5rem; border: 1px solid {LINE}; }}
th {{ color: {DIM}; }} tr {{ break-inside: avoid; }}
code {{ font-size: .92em; overflow-wrap: anywhere; }}
@media print {{ body {{ margin: 0; max-width: none; font-size: 10px; }} table {{ font-size: 9px; }} }}
"""


def page_of(text: str) -> str:
    """The whole page; whatever a site file has in its names stays text."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    title = text.partition("\n")[0].lstrip("# ")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_plain(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}</body></html>\n"
    )


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

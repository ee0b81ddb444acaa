"""What each command does. Heavy libraries are imported inside, when the command runs."""

from mvguide.commands.previewing import preview
from mvguide.commands.rendering import demo, render
from mvguide.commands.scoring import compare, evaluate
from mvguide.commands.searching import search_hypers, sigmas_make, sigmas_show

__all__ = ["compare", "demo", "evaluate", "preview", "render", "search_hypers", "sigmas_make", "sigmas_show"]

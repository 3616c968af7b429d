"""Stories of the project's own: unlimited, graded, with endings that are caused."""

from slam_core.stories.grading import Grade, levels
from slam_core.stories.story import LEVELS, Story, story

__all__ = ["LEVELS", "Grade", "Story", "levels", "story"]

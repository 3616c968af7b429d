"""Stories of the project's own: unlimited, graded, with endings that are caused."""

from slam_core.stories.story import LEVELS, Story, story, story_of

__all__ = ["LEVELS", "Story", "story", "story_of"]

"""Stories of the project's own: unlimited in number, caused from their beginning, graded in level."""

from slam_core.stories.story import LEVELS, Story, story, story_of

__all__ = ["LEVELS", "Story", "story", "story_of"]

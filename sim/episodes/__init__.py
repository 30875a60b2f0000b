"""Seeded episodes: a random plant like the given one, random faults, the production edge, every oracle."""

from sim.episodes.draw import CLAIMED, Episode, EpisodeOptions, episode_of
from sim.episodes.run import EpisodeResult, run_episode

__all__ = ["CLAIMED", "Episode", "EpisodeOptions", "EpisodeResult", "episode_of", "run_episode"]

"""The evaluation wing's tabs: Leaderboard and Evaluate. They show and start; statistics load when they are needed."""

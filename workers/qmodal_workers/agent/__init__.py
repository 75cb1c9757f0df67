"""The worker itself: its lease, and the containers of a box started, watched and ended as assigned."""

"""What the pages need and no model does: their first cell, figures, checks of exercises."""

"""What the user sees: panels, the reasons beside disabled buttons, estimates."""

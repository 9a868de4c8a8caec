"""Engines that keep the truth. Each obeys ``everbell.ports.store``; one suite tests them all."""

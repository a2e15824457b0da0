"""Classes that other projects load as their plug-ins."""

"""The methods of minimisation; their public names are those of the package `jaxgd`."""

"""What pytest leaves out here: Sphinx's modules, and scripts that a build of the site runs."""

collect_ignore_glob = ["*.py", "_*/*", "gallery/*", "auto_gallery/*", "benchmarks/*"]

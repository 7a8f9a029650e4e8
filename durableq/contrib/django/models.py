"""No models: durableq makes its tables itself. Django sends post_migrate to modules with models."""

"""The layers of the packages of durableq/, and their imports."""

# The layer of each package of durableq/, the longest name first, and the layers it may import.
LAYERS = {
    "model": "model",
    "store": "store",
    "runtime": "runtime",
    "engines": "engines",
    "client": "services",
    "worker": "services",
    "supervisor": "services",
    "recovery": "services",
    "admin": "services",
    "metrics": "services",
    "contrib.django.management": "interfaces",
    "contrib.pytest": "interfaces",
    "contrib": "services",
    "testing.chaos": "interfaces",
    "testing": "testing",
    "bench": "interfaces",
    "cli": "interfaces",
    "dashboard": "interfaces",
    "demo": "interfaces",
    "serve.errors": "protocol",
    "serve.wire": "protocol",
    "serve": "interfaces",
    "__main__": "interfaces",
    "__init__": "api",
}
MAY_IMPORT = {
    "model": {"model"},
    "store": {"model", "store"},
    "runtime": {"model", "store", "runtime"},
    "engines": {"model", "store", "runtime"},
    "services": {"model", "store", "runtime", "services"},
    "testing": {"model", "store", "runtime", "testing"},
    # The testing kit has the fakes of the contract's tests.
    "interfaces": {
        *("model", "store", "runtime", "services", "interfaces", "protocol", "api", "testing"),
    },
    "protocol": {"model", "protocol"},  # a codec of bytes: it knows no store
    "api": {"model", "store", "runtime", "services"},
}

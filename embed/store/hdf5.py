"""h5py over a libhdf5 into which nothing is loaded that the environment names: no plugin, connector or driver."""

import os

# All read once, when libhdf5 starts; `::` turns plugins off, whatever the file asks for.
os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
for _name in ("HDF5_PLUGIN_PATH", "HDF5_VOL_CONNECTOR", "HDF5_DRIVER", "HDF5_DRIVER_CONFIG"):
    os.environ.pop(_name, None)

import h5py  # noqa: E402

while h5py.h5pl.size():  # had it started before: no folder is left to load from
    h5py.h5pl.remove(0)

__all__ = ["h5py"]

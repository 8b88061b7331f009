"""Run by `test_array_tools.py` in a process of its own: zarr keeps threads. `array_tools.py WHAT URL [FOLDER]`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import fsspec
import numpy
import polars
import xarray
import zarr

DATA = numpy.arange(10_000, dtype="f4").reshape(100, 100)


def zarr_groups(url: str, zarr_format: int) -> None:
    """A group is written and read over `holdfast://` and read over HTTP, changed, and removed."""
    name, options = f"group{zarr_format}.zarr", {"base_url": url}
    group = zarr.open_group(f"holdfast://{name}", mode="w", storage_options=options, zarr_format=zarr_format)
    group.attrs["title"] = "Grüße"
    made = group.create_group("deep").create_array(
        "x", shape=DATA.shape, chunks=(30, 30), dtype=DATA.dtype, fill_value=0
    )
    made[:] = DATA
    for place, given in ((f"holdfast://{name}", options), (f"{url}/v1/files/{name}", None)):
        again = zarr.open_group(place, mode="r", storage_options=given)
        assert again.attrs["title"] == "Grüße"
        assert again.metadata.zarr_format == zarr_format
        assert (again["deep/x"][:] == DATA).all()
    again = zarr.open_group(f"holdfast://{name}", mode="r+", storage_options=options)
    assert [*again.group_keys()] == ["deep"]
    assert [*again["deep"].array_keys()] == ["x"]
    again["deep/x"][30:60, 30:60] = 0  # a chunk of nothing but the fill value is not kept
    assert again["deep/x"][:].sum() == DATA.sum() - DATA[30:60, 30:60].sum()
    del again["deep/x"]
    assert [*again["deep"].array_keys()] == []
    assert "missing" not in again


def zarr2(url: str) -> None:
    zarr_groups(url, 2)
    fs = fsspec.filesystem("holdfast", base_url=url)
    assert {"group2.zarr/.zgroup", "group2.zarr/.zattrs", "group2.zarr/deep/.zgroup"} <= {*fs.find("group2.zarr")}


def zarr3(url: str) -> None:
    zarr_groups(url, 3)


def xarrays(url: str) -> None:
    """Data sets go there and come back the same, in both formats, and are appended to."""
    options = {"base_url": url}
    for zarr_format in (2, 3):
        place = f"holdfast://data{zarr_format}.zarr"
        values = xarray.DataArray(DATA, dims=("time", "x"), coords={"time": numpy.arange(100)})
        data = xarray.Dataset({"values": values}, attrs={"a": "b"})
        data.to_zarr(place, storage_options=options, zarr_format=zarr_format, mode="w")
        xarray.testing.assert_identical(data, xarray.open_zarr(place, storage_options=options).load())
        xarray.testing.assert_identical(data, xarray.open_zarr(f"{url}/v1/files/data{zarr_format}.zarr").load())
        more = data.assign_coords(time=data.time + 100)
        more.to_zarr(place, storage_options=options, append_dim="time")
        found = xarray.open_zarr(place, storage_options=options)
        xarray.testing.assert_identical(xarray.concat([data, more], "time"), found.load())


def caches(url: str, folder: str) -> None:
    """fsspec's caches stand in front of `holdfast://`."""
    options = {"base_url": url}
    fs = fsspec.filesystem("holdfast", **options)
    data = bytes(range(256)) * 50_000
    fs.pipe_file("cached/data.bin", data)
    for cache in ("blockcache", "filecache", "simplecache"):
        given = {"holdfast": options, cache: {"cache_storage": str(Path(folder, cache))}}
        for _ in range(2):
            with fsspec.open(f"{cache}::holdfast://cached/data.bin", **given) as file:
                file.seek(7_000_000)
                assert file.read(1000) == data[7_000_000:7_001_000]
                file.seek(0)
                assert file.read() == data
    for cache in ("none", "readahead", "bytes", "mmap", "blockcache", "background", "all", "first"):
        with fs.open("cached/data.bin", cache_type=cache, block_size=1 << 20) as file:
            file.seek(6_000_000)
            assert file.read(2_000_000) == data[6_000_000:8_000_000], cache
            file.seek(0)
            assert file.read(10) == data[:10]


def polars_frames(url: str) -> None:
    """polars reads and writes open files, and scans over HTTP."""
    fs = fsspec.filesystem("holdfast", base_url=url)
    frame = polars.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    with fs.open("polars.parquet", "wb") as file:
        frame.write_parquet(file)
    with fs.open("polars.csv", "wb") as file:
        frame.write_csv(file)
    with fs.open("polars.parquet") as file:
        assert polars.read_parquet(file).equals(frame)
    with fs.open("polars.csv") as file:
        assert polars.read_csv(file).equals(frame)
    place = f"{url}/v1/files/polars"
    assert polars.scan_parquet(f"{place}.parquet").filter(polars.col("a") > 1).collect().equals(frame[1:])
    assert polars.scan_csv(f"{place}.csv").collect().equals(frame)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of these libraries, on what is to come
    globals()[sys.argv[1]](*sys.argv[2:])

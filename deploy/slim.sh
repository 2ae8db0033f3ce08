#!/bin/sh
# Takes out of a folder of installed packages what tagging never loads: deploy/slim.sh SITE_PACKAGES
# For images and appliances. Packages that were cut cannot do anything else any more.
set -eu
cd "${1:?give the folder of site-packages}"

# Of SciPy the compiled FFT is used, and nothing else (features/fft.py).
find scipy -type f ! -path 'scipy/__init__.py' ! -path 'scipy/fft/_pocketfft/*.so' ! -name 'LICENSE*' -delete
rm -rf scipy.libs
# Of LiteRT its interpreter on processors.
rm -rf ai_edge_litert/libLiteRt*.so ai_edge_litert/tools ai_edge_litert/vendors ai_edge_litert/aot
# Of Arrow files, columns and object stores.
rm -rf pyarrow/libarrow_flight.so* pyarrow/_flight*.so
rm -rf pyarrow/include pyarrow/tests
# Tests and sources that are compiled already.
find apache_beam numpy -type d -name tests -prune -exec rm -rf {} +
find . -name '*_test.py' -delete
find . \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.c' -o -name '*.h' \) -type f -delete
find . -type d -empty -delete
# Debug symbols, most of them Beam's, where binutils are installed.
if command -v strip > /dev/null; then
    find apache_beam grpc zstandard -name '*.so' -exec strip --strip-debug {} +
fi

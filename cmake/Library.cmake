# libadaptmedseg, built by cargo or taken from ADAPTMEDSEG_LIBRARY_DIR: for the CMake project of the library, which
# installs it, and for the extension of 3D Slicer, which packs it. PROJECT_SOURCE_DIR must be the tree's root.
#
# Sets version, abi, the folder `built`, the names `shared`, `static` and `import` of the files in it, and in
# `static_needs` what Rust's standard library needs of the system. Makes the target AdaptMedSeg::adaptmedseg_static, for
# the same build.

set(root "${PROJECT_SOURCE_DIR}")

# One place has the version: Cargo.toml.
file(STRINGS "${root}/Cargo.toml" version_line REGEX "^version = \"[0-9]+\\.[0-9]+\\.[0-9]+" LIMIT_COUNT 1)
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" version "${version_line}")
# And another the number of the ABI.
file(STRINGS "${root}/include/adaptmedseg.h" abi_line REGEX "^#define AMS_ABI_VERSION [0-9]+$")
string(REGEX MATCH "[0-9]+$" abi "${abi_line}")
if(version STREQUAL "" OR abi STREQUAL "")
    message(FATAL_ERROR "no version in Cargo.toml, or no AMS_ABI_VERSION in include/adaptmedseg.h")
endif()

set(ADAPTMEDSEG_LIBRARY_DIR "" CACHE PATH "Folder of an already built libadaptmedseg; empty: build it with cargo")
set(ADAPTMEDSEG_CARGO_PROFILE "release" CACHE STRING "Cargo profile to build with")
set(ADAPTMEDSEG_CARGO_ARGS "" CACHE STRING "Further arguments for cargo, a list, such as --locked;--offline")
set(ADAPTMEDSEG_CARGO_TARGET_DIR "${CMAKE_BINARY_DIR}/cargo" CACHE PATH "Where cargo builds")

if(WIN32)
    set(shared adaptmedseg.dll)
    set(static adaptmedseg.lib)
    set(import adaptmedseg.dll.lib)
    set(static_needs kernel32 ntdll userenv ws2_32 dbghelp)
elseif(APPLE)
    set(shared libadaptmedseg.dylib)
    set(static libadaptmedseg.a)
    set(static_needs "-framework CoreFoundation" Threads::Threads m)
else()
    set(shared libadaptmedseg.so)
    set(static libadaptmedseg.a)
    set(static_needs gcc_s Threads::Threads ${CMAKE_DL_LIBS} m)
endif()

if(ADAPTMEDSEG_LIBRARY_DIR)
    set(built "${ADAPTMEDSEG_LIBRARY_DIR}")
else()
    find_program(CARGO_EXECUTABLE cargo HINTS "$ENV{HOME}/.cargo/bin" REQUIRED)
    set(profile_folder "${ADAPTMEDSEG_CARGO_PROFILE}")
    if(profile_folder STREQUAL "dev")
        set(profile_folder debug)
    endif()
    set(built "${ADAPTMEDSEG_CARGO_TARGET_DIR}/${profile_folder}")
    # Cargo knows what is out of date, so it is always asked.
    add_custom_target(adaptmedseg_cargo ALL
        COMMAND "${CMAKE_COMMAND}" -E env "CARGO_TARGET_DIR=${ADAPTMEDSEG_CARGO_TARGET_DIR}"
            "${CARGO_EXECUTABLE}" build --package adaptmedseg-capi --profile "${ADAPTMEDSEG_CARGO_PROFILE}"
            ${ADAPTMEDSEG_CARGO_ARGS}
        WORKING_DIRECTORY "${root}"
        BYPRODUCTS "${built}/${shared}" "${built}/${static}"
        USES_TERMINAL
        VERBATIM)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
add_library(AdaptMedSeg::adaptmedseg_static STATIC IMPORTED GLOBAL)
set_target_properties(AdaptMedSeg::adaptmedseg_static PROPERTIES
    IMPORTED_LOCATION "${built}/${static}"
    INTERFACE_INCLUDE_DIRECTORIES "${root}/include"
    INTERFACE_LINK_LIBRARIES "${static_needs}")
if(TARGET adaptmedseg_cargo)
    add_dependencies(AdaptMedSeg::adaptmedseg_static adaptmedseg_cargo)
endif()

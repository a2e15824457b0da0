# The targets, for a build tree and for an installed package alike. Needs `libdir` and `includedir`.
foreach(kind IN ITEMS vyre_io static)
    if(TARGET vyre_io::${kind})
        continue()
    endif()
    if(kind STREQUAL static)
        add_library(vyre_io::static STATIC IMPORTED GLOBAL)
        set_target_properties(vyre_io::static PROPERTIES
            IMPORTED_LOCATION "${libdir}/libvyre_io.a"
            # As `rustc --print native-static-libs` says.
            INTERFACE_LINK_LIBRARIES "gcc_s;util;rt;pthread;m;dl")
    else()
        add_library(vyre_io::vyre_io SHARED IMPORTED GLOBAL)
        set_target_properties(vyre_io::vyre_io PROPERTIES IMPORTED_LOCATION "${libdir}/libvyre_io.so")
    endif()
    set_target_properties(vyre_io::${kind} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${includedir}")
endforeach()

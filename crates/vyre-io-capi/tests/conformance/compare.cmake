# Runs COMMAND, a driver, with a TRANSPORT, and compares its transcript with the expected one.
execute_process(COMMAND ${COMMAND} "${CMAKE_CURRENT_LIST_DIR}/cases.txt" ${TRANSPORT}
    OUTPUT_FILE "${OUTPUT}" RESULT_VARIABLE result)
if(NOT result EQUAL 0)
    message(FATAL_ERROR "the driver ended with ${result}; ${OUTPUT} has its transcript")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files "${OUTPUT}" "${CMAKE_CURRENT_LIST_DIR}/expected.txt"
    RESULT_VARIABLE result)
if(NOT result EQUAL 0)
    execute_process(COMMAND diff "${OUTPUT}" "${CMAKE_CURRENT_LIST_DIR}/expected.txt")
    message(FATAL_ERROR "${OUTPUT} is not expected.txt")
endif()

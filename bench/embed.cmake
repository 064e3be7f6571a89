# cmake -D OUT=FILE.c -D "NAMES=a=FILE;b=FILE" -P embed.cmake: files as zero-terminated arrays of C, so that a program
# needs nothing beside itself.
set(text "/* Made by bench/embed.cmake. */\n")
foreach(pair IN LISTS NAMES)
  string(REGEX MATCH "^([^=]+)=(.*)$" matched "${pair}")
  set(name ${CMAKE_MATCH_1})
  file(READ "${CMAKE_MATCH_2}" bytes HEX)
  string(REGEX REPLACE "(................................)" "\\1\n    " bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1, " bytes "${bytes}")
  string(APPEND text "extern const char ${name}[];\nconst char ${name}[] = {\n    ${bytes}0};\n")
endforeach()
file(WRITE "${OUT}" "${text}")

-- Included before workflow.lua in the scripts that handle one slice of a workflow's nodes.

-- Numbers of nodes, a slice of them.
local function numbers_from(first)
  local numbers = {}
  for number = first, first + SLICE - 1 do numbers[#numbers + 1] = number end
  return numbers
end

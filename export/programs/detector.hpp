// Runs a file of `yolo-distill export` with onnxruntime's C++ API (from 1.16 on). Open it once and keep it.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "yolo.hpp"

namespace yolo {

class Detector {
  public:
    std::vector<std::string> names;  // by class_id

    // `options` says where it runs and with how many threads.
    explicit Detector(const ORTCHAR_T* file, const Ort::SessionOptions& options = Ort::SessionOptions())
        : session(env, file, options) {
        if (note("task") != "detect") throw bad("is for " + note("task") + ", and this program finds boxes");
        names = read_names(note("names"));
        end2end = note("end2end") == "True";
        input = session.GetInputNameAllocated(0, memory).get();
        output = session.GetOutputNameAllocated(0, memory).get();
        if (std::sscanf(note("imgsz").c_str(), "[%d, %d]", &height, &width) != 2) throw bad("has no readable imgsz");
        const auto type = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetElementType();
        if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) throw bad("takes no float32: export it with input=floats");
    }

    // Boxes in pixels of the picture, best first; from several threads at once as well.
    std::vector<Detection> operator()(const Picture& picture, const Settings& settings = Settings()) {
        const Transform transform(picture.height, picture.width, height, width);
        std::vector<float> floats = letterbox(picture, transform);
        const std::array<std::int64_t, 4> shape{1, 3, height, width};
        const auto tensor = Ort::Value::CreateTensor<float>(memory.GetInfo(), floats.data(), floats.size(),  //
                                                            shape.data(), shape.size());
        const char *inputs[] = {input.c_str()}, *outputs[] = {output.c_str()};
        const auto answer = session.Run(Ort::RunOptions(), inputs, &tensor, 1, outputs, 1);
        const auto sides = answer[0].GetTensorTypeAndShapeInfo().GetShape();
        if (sides.size() != 3 || (end2end ? sides[2] != 6 : sides[1] != std::int64_t(4 + names.size()))) {
            throw bad("answers in another shape than its notes say");
        }
        auto found = decode(answer[0].GetTensorData<float>(), int(sides[1]), int(sides[2]), end2end, settings);
        for (auto& one : found) one = transform.to_picture(one);
        return found;
    }

  private:
    Ort::Env env;
    Ort::Session session;
    Ort::AllocatorWithDefaultOptions memory;
    std::string input, output;
    int height = 0, width = 0;
    bool end2end = false;

    std::string note(const char* key) {
        const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated(key, memory);
        if (!text) throw bad(std::string("has no note ") + key);
        return text.get();
    }

    static std::runtime_error bad(const std::string& what) { return std::runtime_error("the model " + what); }
};

}  // namespace yolo

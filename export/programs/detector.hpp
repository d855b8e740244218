// Runs a file of `yolo-distill export` with onnxruntime's C++ API (from 1.16 on). Open it once and keep it.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "masks.hpp"

namespace yolo {

class Detector {
  public:
    std::vector<std::string> names;  // by class_id

    // `options` says where it runs and with how many threads.
    explicit Detector(const ORTCHAR_T* file, const Ort::SessionOptions& options = Ort::SessionOptions())
        : session(env, file, options) {
        const std::string task = note("task");
        names = read_names(note("names"));
        form.end2end = note("end2end") == "True";
        form.turned = task == "obb";
        input = session.GetInputNameAllocated(0, memory).get();
        int points = 0;
        if (task == "pose") {
            std::sscanf(note("kpt_shape").c_str(), "%*c%d, %d", &points, &form.keypoint);
            if (points < 1 || form.keypoint < 2) throw bad("has no readable kpt_shape");
        }
        form.own = form.turned ? 1 : points * form.keypoint;
        if (task != "detect" && task != "segment" && form.own == 0) throw bad("is for " + task);
        outputs.resize(task == "segment" ? 2 : 1);
        if (session.GetOutputCount() != outputs.size()) throw bad("has another number of outputs than its task");
        for (std::size_t i = 0; i < outputs.size(); i++) {  // boxes before prototypes
            const auto sides = session.GetOutputTypeInfo(i).GetTensorTypeAndShapeInfo().GetShape();
            outputs[sides.size() == 4 && outputs.size() == 2] = session.GetOutputNameAllocated(i, memory).get();
        }
        if (std::sscanf(note("imgsz").c_str(), "[%d, %d]", &height, &width) != 2) throw bad("has no readable imgsz");
        const auto type = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetElementType();
        if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) throw bad("takes no float32: export it with input=floats");
    }

    // What the picture shows, in its pixels, best first; from several threads at once as well.
    std::vector<Detection> operator()(const Picture& picture, const Settings& settings = Settings()) {
        const Transform transform(picture.height, picture.width, height, width);
        std::vector<float> floats = letterbox(picture, transform);
        const std::array<std::int64_t, 4> shape{1, 3, height, width};
        const auto tensor = Ort::Value::CreateTensor<float>(memory.GetInfo(), floats.data(), floats.size(),  //
                                                            shape.data(), shape.size());
        const char *inputs[] = {input.c_str()}, *wanted[] = {outputs.front().c_str(), outputs.back().c_str()};
        const auto answer = session.Run(Ort::RunOptions(), inputs, &tensor, 1, wanted, outputs.size());
        const auto sides = answer[0].GetTensorTypeAndShapeInfo().GetShape();
        const auto protos = answer.back().GetTensorTypeAndShapeInfo().GetShape();
        Form said = form;
        if (outputs.size() == 2) said.own = protos.size() == 4 ? int(protos[1]) : -1;
        const int boxes = form.end2end ? 6 : 4 + int(names.size());
        if (said.own < 0 || sides.size() != 3 || sides[form.end2end ? 2 : 1] != boxes + said.own) {
            throw bad("answers in another shape than its notes say");
        }
        auto found = decode(answer[0].GetTensorData<float>(), int(sides[1]), int(sides[2]), said, settings);
        for (auto& one : found) one = transform.to_picture(std::move(one), said);
        if (outputs.size() == 1) return found;
        const float* data = answer[1].GetTensorData<float>();
        const Prototypes prototypes(data, said.own, int(protos[2]), int(protos[3]), transform);
        for (auto& one : found) one.mask = prototypes.mask(one), one.own.clear();
        const auto unseen = [](const Detection& one) { return one.mask.bits.empty(); };
        found.erase(std::remove_if(found.begin(), found.end(), unseen), found.end());
        return found;
    }

  private:
    Ort::Env env;
    Ort::Session session;
    Ort::AllocatorWithDefaultOptions memory;
    std::string input;
    std::vector<std::string> outputs;
    int height = 0, width = 0;
    Form form;

    std::string note(const char* key) {
        const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated(key, memory);
        if (!text) throw bad(std::string("has no note ") + key);
        return text.get();
    }

    static std::runtime_error bad(const std::string& what) { return std::runtime_error("the model " + what); }
};

}  // namespace yolo
